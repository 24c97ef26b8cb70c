"""World models as environments: a video model imagines what a simulator would show, a classifier rewards it."""
