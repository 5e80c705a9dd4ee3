package integration

// demandFeatures are about what is remembered of a workload.
func demandFeatures() []feature {
	return []feature{{name: "the next replica starts with what the last one used", manifest: user + services(0, 2), test: testStartsWarm}}
}

func testStartsWarm(w *world) {
	use := func() { w.meshed(w.get(own, "http://s0/x"), w.ns+"/"+ownID) }
	listeners := w.listenerUpdates()
	use()
	w.eventually("it is promoted", func() bool { return w.listenerUpdates() > listeners }, func() string { return "" })
	first := w.pod(w.ns, "own-").Name
	w.delete(user)
	w.apply(user)
	if second := w.pod(w.ns, "own-").Name; second == first {
		w.Fatalf("%s is not another pod", second)
	}
	before := w.sent()
	use()
	if got := difference(before, w.sent()); len(got) > 0 {
		w.Errorf("its first use of what the last replica used: sent %v", got)
	}
	w.meshed(w.get(own, "http://s1/x"), w.ns+"/"+ownID)
	if got := difference(before, w.sent()); len(got) == 0 {
		w.Error("the first use of what nobody has used: sent nothing")
	}
}
