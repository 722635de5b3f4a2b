"""Real model servers as autoscaled pods: MLServer, BentoML, Ray Serve behind Deployments on a real kubelet.

One tiny model in all three (`models/`), the pods around it (`servers`, `manifests`), a load generator that
does not wait for answers (`load`), what became of pods and requests (`watching`, `recovery`), and the
experiment: a step to five times the load (`rig`, `trial`). The servers' own packages are installed by
`deploy.local.model_servers`.
"""
