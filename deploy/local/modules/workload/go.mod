module slicewise.local/workload

go 1.26.0
