"""What came of a run, from the ledger to a page, a JSON document and a summary for the terminal."""
