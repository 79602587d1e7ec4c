"""What experts say of readings: kept version by version, compared, and given out as samples and shapes."""
