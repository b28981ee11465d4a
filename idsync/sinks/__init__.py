"""Where a new secret is delivered: a file, a command's stdin, HashiCorp Vault, a Kubernetes Secret. It is kept nowhere else."""
