"""The policies of the autoscaling study, one file a system: what each decides, step by step, as it ships."""
