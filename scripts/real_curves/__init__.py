"""Real loss curves whose spikes two people marked by eye, and a detector's scores on them."""
