"""What an auditor asks for: who left in a period, when their access ended, what proves it, and who decided what."""
