"""Triplets of drawings from a finished curation, as AnimeInterp (arXiv 2104.02495) made its ATD-12K: docs/triplets.md."""
