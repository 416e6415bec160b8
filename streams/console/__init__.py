"""What people and status APIs look at: a read model of all invocations, projected from `facts`."""
