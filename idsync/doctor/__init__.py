"""`idsync doctor`: what is wrong, or soon will be, asked for and not assumed. Reads only, and each look is bounded."""
