"""Speed of the curation, measured from outside: `make bench`, docs/speed.md."""
