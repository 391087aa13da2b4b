"""What `solve` calls its methods."""

METHODS = [
    "auto",
    "value_iteration",
    "modified_policy_iteration",
    "policy_iteration",
    "gauss_seidel",
    "topological",
    "prioritized_sweeping",
]
