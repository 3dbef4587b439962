"""AnimeInterp (arXiv 2104.02495): segment-guided matching, recurrent flow refinement, splatting and synthesis.

The paper and the released programs differ in places; `behaviour.Behaviour` chooses wherever they do.
"""
