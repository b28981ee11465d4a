"""Every SQL statement of idsync: the directory, the people, the ledger, the jobs, the audit trail."""
