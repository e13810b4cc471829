"""How far back an agent's memory reaches: truncated and counterfactual histories, summary and figure."""
