"""Its place alone matters: pytest puts this folder on the path, so that tests in the folders below find the builders here."""
