"""fastrl's parts behind the interfaces of other libraries; what a module needs is the extra of its name."""
