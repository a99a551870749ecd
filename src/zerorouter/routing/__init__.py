"""From one table of estimates to a decision with its reasons; pure functions throughout."""
