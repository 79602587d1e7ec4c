"""How a run is started on several processes or on a cluster: commands, scripts, and what is checked before them."""
