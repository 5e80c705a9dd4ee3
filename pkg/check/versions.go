package check

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/meshd-io/meshd/pkg/injector"
)

// versions: this command, every replica and the agents beside the proxies go together.
func versions(f *Facts) verdict {
	v := verdict{well: "meshd and this command are " + f.Version}
	servers := map[string][]string{}
	for _, r := range f.Replicas {
		if r.State.Version != "" {
			servers[r.State.Version] = append(servers[r.State.Version], orMeshd(r.Name))
		}
	}
	var differ, apart []string
	for _, version := range slices.Sorted(maps.Keys(servers)) {
		apart = append(apart, fmt.Sprintf("%s (%s)", version, strings.Join(servers[version], ", ")))
		if version != f.Version {
			differ = append(differ, version)
		}
	}
	if len(apart) > 1 {
		v.addEach(Warn, "replicas are of several versions", "wait for the rollout's end", apart)
	}
	v.addEach(Warn, "this command is "+f.Version+" and meshd another version", "use the command of meshd's version", differ)
	if f.Cluster != nil && len(servers) > 0 {
		server := slices.MaxFunc(slices.Collect(maps.Keys(servers)), compareVersions)
		f.agents(&v, server)
	}
	return v
}

// agents of the server's version or of the minor one before go together with it.
func (f *Facts) agents(v *verdict, server string) {
	counts := map[string]int{}
	var far []string
	for _, pod := range f.Cluster.Pods {
		image := imageOf(pod, injector.AgentContainer)
		if image == "" || !serving(pod) {
			continue
		}
		tag := tagOf(image)
		counts[tag]++
		if !compatible(server, tag) {
			far = append(far, fmt.Sprintf("%s/%s (%s)", pod.Namespace, pod.Name, tag))
		}
	}
	for _, tag := range slices.Sorted(maps.Keys(counts)) {
		v.well += fmt.Sprintf(", %d agents %s", counts[tag], tag)
	}
	v.addEach(Warn, "agents do not go together with meshd "+server, "make the pods anew: kubectl rollout restart", far)
}

// tagOf is an image's tag, "" where it has none.
func tagOf(image string) string {
	image, _, _ = strings.Cut(image, "@")
	if i := strings.LastIndex(image, ":"); i > strings.LastIndex(image, "/") {
		return image[i+1:]
	}
	return ""
}

// compatible: an agent of the server's own minor version, or of the one
// before. A tag that is no version is somebody's own image: nothing is known of it.
func compatible(server, agent string) bool {
	s, known := numbers(server)
	a, versioned := numbers(agent)
	if !known || !versioned {
		return true
	}
	return s[0] == a[0] && (s[1] == a[1] || s[1] == a[1]+1)
}

// numbers are MAJOR, MINOR and PATCH.
func numbers(version string) (out [3]int, ok bool) {
	core, _, _ := strings.Cut(strings.TrimPrefix(version, "v"), "-")
	parts := strings.Split(core, ".")
	if len(parts) != len(out) {
		return out, false
	}
	for i, part := range parts {
		n, err := strconv.Atoi(part)
		if err != nil || n < 0 {
			return out, false
		}
		out[i] = n
	}
	return out, true
}

func compareVersions(a, b string) int {
	x, _ := numbers(a)
	y, _ := numbers(b)
	return slices.Compare(x[:], y[:])
}
