// Package telemetry has every metric of meshd, and its logger.
package telemetry
