"""The kubelet side of our DRA driver: gRPC services, sockets, registration."""
