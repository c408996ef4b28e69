"""What `hw1 train`, `hw1 validate` and `hw1 schema` do. The other commands are the packages of their names."""
