"""The second pipeline: the assignment's claims and questions, as cells with parameters of their own."""
