"""A talking head rendered from a photograph, with its truth: the tests' subject, the accuracy benchmark's and the demo's."""
