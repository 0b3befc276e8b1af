"""How several losses become one step: weights from the losses and from the Gramian of their gradients."""
