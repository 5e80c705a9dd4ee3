package envoy_test

import (
	"testing"

	"github.com/meshd-io/meshd/internal/envoytest"
	"github.com/meshd-io/meshd/pkg/xds/envoy"
)

func TestSmoke(t *testing.T) {
	all := map[string]envoy.Resources{}
	for name, c := range cases() {
		rs, _ := envoy.Translate(c.view())
		all[name] = rs
	}
	envoytest.ValidateResources(t, all)
}
