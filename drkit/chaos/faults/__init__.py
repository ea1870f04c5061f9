"""What drkit can break, one file a fault: how it is injected, seen from outside, and reverted."""
