"""From vectors and labels to evidence: splits, scores, comparisons, figures."""
