// Package services compiles who and what there is: pods, workloads, their
// ports, Services and what is behind them. Each function makes one value from
// those that it names; package compile says which belong together.
//
//	PodOf, ServiceOf, SliceOf --> Endpoints --> Behind --> Speak --> Group --> Compile
//
// Policies come in between: package policy fills modes and authorisation into
// the workloads before Services are compiled. Pure.
package services
