// Package services compiles who and what there is: pods, workloads, their
// ports, Services and what is behind them.
//
//	Take (pods, Services, leads) -> Workloads (ports, protocols) -> Services (endpoints)
//
// Policies come in between: package policy fills modes and authorisation into
// the workloads before Services asks for them. Pure.
package services
