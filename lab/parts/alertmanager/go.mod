module phasegate.dev/lab/parts/alertmanager

go 1.26.7

require github.com/prometheus/alertmanager v0.34.2
