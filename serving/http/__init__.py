"""How this API speaks HTTP: bodies, problems, documents, the guard. It knows no route of ours."""
