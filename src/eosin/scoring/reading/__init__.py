"""What is read out of a reply: options, quantities, events, names."""
