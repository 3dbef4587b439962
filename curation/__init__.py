"""Raw cartoon archives to WebDataset shards: survey, score, decide, encode, shard."""
