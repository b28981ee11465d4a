"""What is left when the process is killed, and who wins when two changes of one person cross."""
