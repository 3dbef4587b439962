"""The preference study: people choose the best of several systems' films, without knowing which is whose."""
