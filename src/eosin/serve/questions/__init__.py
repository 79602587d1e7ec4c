"""Questions about a slide or a region: the reply as it is drawn, its statements, their places, their standing."""
