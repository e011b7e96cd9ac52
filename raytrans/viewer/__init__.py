"""The viewer: a scene in the browser, with the model's rendering from the browser's camera behind its points."""
