"""Its place makes what lies beside it importable from every folder of tests."""
