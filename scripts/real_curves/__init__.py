"""Real loss curves whose spikes two labellers marked by eye, and a detector's scores on them."""
