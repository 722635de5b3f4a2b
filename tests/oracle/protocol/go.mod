module slicewise.local/oracle

go 1.24.0

require (
	k8s.io/api v0.34.4
	k8s.io/apimachinery v0.34.4
	k8s.io/dynamic-resource-allocation v0.34.4
)
