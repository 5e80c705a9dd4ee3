package kubelet

import (
	"fmt"
	"maps"
	"path"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/meshd-io/meshd/pkg/lab/store"
)

const (
	defaultFileMode     = 0o644
	defaultTokenSeconds = 3600
)

// file is one file of a projected volume.
type file struct {
	data []byte
	mode uint32
}

// TokenSource signs service-account tokens that are bound to a pod.
type TokenSource interface {
	Token(p *corev1.Pod, audience string, lifetime time.Duration) (string, error)
}

// projection is the files of a volume that is made from objects, by path; ok
// is false for volumes that are folders. refresh is how soon a token in it is to be
// replaced; 0 is never.
func projection(v store.View, p *corev1.Pod, vol corev1.Volume, tokens TokenSource) (files map[string]file, refresh time.Duration, err error) {
	files = map[string]file{}
	switch {
	case vol.ConfigMap != nil:
		s := vol.ConfigMap
		data, err := configMap(v, p.Namespace, s.Name)
		return files, 0, place(files, data, err, items{s.Items, s.DefaultMode, s.Optional, "ConfigMap " + s.Name})
	case vol.Secret != nil:
		s := vol.Secret
		data, err := secret(v, p.Namespace, s.SecretName)
		return files, 0, place(files, data, err, items{s.Items, s.DefaultMode, s.Optional, "Secret " + s.SecretName})
	case vol.DownwardAPI != nil:
		return files, 0, placeFields(files, p, vol.DownwardAPI.Items, vol.DownwardAPI.DefaultMode)
	case vol.Projected != nil:
		for _, s := range vol.Projected.Sources {
			soon, err := project(v, p, s, vol.Projected.DefaultMode, projector{files, tokens})
			if err != nil {
				return nil, 0, err
			}
			if soon > 0 && (refresh == 0 || soon < refresh) {
				refresh = soon
			}
		}
		return files, refresh, nil
	}
	return nil, 0, nil
}

// projected reports whether a volume is made from objects.
func projected(vol corev1.Volume) bool {
	return vol.ConfigMap != nil || vol.Secret != nil || vol.DownwardAPI != nil || vol.Projected != nil
}

type projector struct {
	files  map[string]file
	tokens TokenSource
}

func project(v store.View, p *corev1.Pod, s corev1.VolumeProjection, mode *int32, to projector) (refresh time.Duration, err error) {
	switch {
	case s.ConfigMap != nil:
		data, err := configMap(v, p.Namespace, s.ConfigMap.Name)
		return 0, place(to.files, data, err, items{s.ConfigMap.Items, mode, s.ConfigMap.Optional, "ConfigMap " + s.ConfigMap.Name})
	case s.Secret != nil:
		data, err := secret(v, p.Namespace, s.Secret.Name)
		return 0, place(to.files, data, err, items{s.Secret.Items, mode, s.Secret.Optional, "Secret " + s.Secret.Name})
	case s.DownwardAPI != nil:
		return 0, placeFields(to.files, p, s.DownwardAPI.Items, mode)
	case s.ServiceAccountToken != nil:
		seconds := int64(defaultTokenSeconds)
		if s.ServiceAccountToken.ExpirationSeconds != nil {
			seconds = *s.ServiceAccountToken.ExpirationSeconds
		}
		lifetime := time.Duration(seconds) * time.Second
		token, err := to.tokens.Token(p, s.ServiceAccountToken.Audience, lifetime)
		if err != nil {
			return 0, fmt.Errorf("service-account token: %w", err)
		}
		to.files[path.Clean(s.ServiceAccountToken.Path)] = file{data: []byte(token), mode: fileMode(nil, mode)}
		return lifetime * 4 / 5, nil
	}
	return 0, fmt.Errorf("a projected source is of a kind that the lab does not have")
}

// items say which keys of an object become which files.
type items struct {
	list     []corev1.KeyToPath
	mode     *int32
	optional *bool
	of       string
}

func place(files map[string]file, data map[string]string, err error, it items) error {
	if err != nil {
		if optional(it.optional) {
			return nil
		}
		return err
	}
	if len(it.list) == 0 {
		for k, val := range data {
			files[k] = file{data: []byte(val), mode: fileMode(nil, it.mode)}
		}
		return nil
	}
	for _, i := range it.list {
		val, ok := data[i.Key]
		if !ok {
			if optional(it.optional) {
				continue
			}
			return fmt.Errorf("%s has no key %q", it.of, i.Key)
		}
		rel, err := inside(i.Path)
		if err != nil {
			return err
		}
		files[rel] = file{data: []byte(val), mode: fileMode(i.Mode, it.mode)}
	}
	return nil
}

func placeFields(files map[string]file, p *corev1.Pod, list []corev1.DownwardAPIVolumeFile, mode *int32) error {
	for _, i := range list {
		rel, err := inside(i.Path)
		if err != nil {
			return err
		}
		var val string
		switch {
		case i.FieldRef != nil:
			val, err = field(p, i.FieldRef.FieldPath)
		case i.ResourceFieldRef != nil:
			val = resourceField(p, corev1.Container{}, i.ResourceFieldRef)
		}
		if err != nil {
			return err
		}
		files[rel] = file{data: []byte(val), mode: fileMode(i.Mode, mode)}
	}
	return nil
}

// inside refuses paths that leave the volume.
func inside(rel string) (string, error) {
	clean := path.Clean(rel)
	if path.IsAbs(rel) || clean == ".." || strings.HasPrefix(clean, "../") || rel == "" {
		return "", fmt.Errorf("path %q is not inside of its volume", rel)
	}
	return clean, nil
}

func fileMode(own, common *int32) uint32 {
	if own != nil {
		return uint32(*own) & 0o777
	}
	if common != nil {
		return uint32(*common) & 0o777
	}
	return defaultFileMode
}

func sameFiles(a, b map[string]file) bool {
	return maps.EqualFunc(a, b, func(x, y file) bool { return x.mode == y.mode && string(x.data) == string(y.data) })
}
