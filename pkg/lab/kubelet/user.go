package kubelet

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
)

// identityOf is the user and groups that a container's processes run as.
// Without a runAsUser it is root: there is no image that could say otherwise.
func identityOf(p *corev1.Pod, c corev1.Container) (uid, gid uint32, groups []uint32, err error) {
	var user, group *int64
	nonRoot := false
	if s := p.Spec.SecurityContext; s != nil {
		user, group = s.RunAsUser, s.RunAsGroup
		nonRoot = optional(s.RunAsNonRoot)
		for _, g := range s.SupplementalGroups {
			groups = append(groups, uint32(g))
		}
		if s.FSGroup != nil {
			groups = append(groups, uint32(*s.FSGroup))
		}
	}
	if s := c.SecurityContext; s != nil {
		if s.RunAsUser != nil {
			user = s.RunAsUser
		}
		if s.RunAsGroup != nil {
			group = s.RunAsGroup
		}
		if s.RunAsNonRoot != nil {
			nonRoot = *s.RunAsNonRoot
		}
	}
	if user != nil {
		uid = uint32(*user)
	}
	if group != nil {
		gid = uint32(*group)
	}
	if nonRoot && uid == 0 {
		return 0, 0, nil, fmt.Errorf("runAsNonRoot, but no runAsUser other than 0 is given")
	}
	return uid, gid, groups, nil
}
