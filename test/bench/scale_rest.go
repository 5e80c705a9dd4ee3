package main

import "context"

func (r *scaleRun) idle(context.Context, *child) error    { return nil }
func (r *scaleRun) restart(context.Context, *child) error { return nil }
func (r *scaleRun) stalled(context.Context, *child) error { return nil }
