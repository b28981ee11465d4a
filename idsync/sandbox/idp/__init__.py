"""What the stand-ins of the identity providers share: ordered records, rules that break things, the request pipeline."""
