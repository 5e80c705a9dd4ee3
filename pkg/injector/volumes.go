package injector

import (
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// tokenSeconds is the lifetime of the token; kubelet renews it at 80 %.
const tokenSeconds = 3600

// certificateSeconds is the longest that a certificate from kubelet may live.
// How long it does is CertificateAuthority's to say; this is the API's default
// (its least is 3600, and a signer may always give less).
const certificateSeconds = 86400

// runVolume has the sockets that agent and proxy share, in memory.
func runVolume() corev1.Volume {
	size := resource.MustParse("1Mi")
	return corev1.Volume{Name: RunVolume, VolumeSource: corev1.VolumeSource{
		EmptyDir: &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumMemory, SizeLimit: &size}}}
}

// tokenVolume is readable for ProxyUID in every pod, and so is identityVolume.
// Kubelet writes tokens, certificates and trust bundles 0644, unless all
// containers of the pod run as one user (then 0600 and theirs: a gateway's pod,
// where that user is ProxyUID; never an injected pod, whose capture step is
// root), or the pod has an fsGroup (then 0640 and of that group, which every
// container of the pod, agent and proxy too, is a member of). So the pod's own
// fsGroup and runAsUser are left alone, and none is added. Of the pod's
// containers only meshd's mount them.
func tokenVolume() corev1.Volume {
	expiry := int64(tokenSeconds)
	return projected(TokenVolume, corev1.VolumeProjection{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{
		Audience: TokenAudience, ExpirationSeconds: &expiry, Path: "token"}})
}

// trustVolume keeps a pod from starting until the anchor is there.
func trustVolume(cfg Config) corev1.Volume {
	if cfg.TrustBundles {
		return projected(TrustVolume, anchor(cfg))
	}
	return corev1.Volume{Name: TrustVolume, VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{
		LocalObjectReference: corev1.LocalObjectReference{Name: TrustConfigMap},
		Items:                []corev1.KeyToPath{{Key: TrustKey, Path: TrustKey}}}}}
}

// identityVolume has, beside what kubelet rotates, files that tell Envoy about
// it: Envoy follows files only by SDS, whose answer is a file as well. They
// are annotations of the pod that the downward API writes, so that nothing has
// to run in the pod to make them. Whoever may change a pod's annotations may
// change its images, too.
func identityVolume(cfg Config, files map[string]string) corev1.Volume {
	longest := int32(certificateSeconds)
	var items []corev1.DownwardAPIVolumeFile
	for _, name := range slices.Sorted(maps.Keys(files)) {
		items = append(items, corev1.DownwardAPIVolumeFile{Path: name, FieldRef: &corev1.ObjectFieldSelector{
			APIVersion: "v1", FieldPath: "metadata.annotations['" + SDSAnnotationPrefix + name + "']"}})
	}
	return projected(IdentityVolume,
		corev1.VolumeProjection{PodCertificate: &corev1.PodCertificateProjection{
			SignerName: PodCertificateSigner, KeyType: "ECDSAP256",
			MaxExpirationSeconds: &longest, CredentialBundlePath: CredentialFile}},
		anchor(cfg),
		corev1.VolumeProjection{DownwardAPI: &corev1.DownwardAPIProjection{Items: items}})
}

// anchor is what meshd is known by, as one source of a volume.
func anchor(cfg Config) corev1.VolumeProjection {
	if cfg.TrustBundles {
		name := TrustBundle
		return corev1.VolumeProjection{ClusterTrustBundle: &corev1.ClusterTrustBundleProjection{Name: &name, Path: TrustKey}}
	}
	return corev1.VolumeProjection{ConfigMap: &corev1.ConfigMapProjection{
		LocalObjectReference: corev1.LocalObjectReference{Name: TrustConfigMap},
		Items:                []corev1.KeyToPath{{Key: TrustKey, Path: TrustKey}}}}
}

func projected(name string, sources ...corev1.VolumeProjection) corev1.Volume {
	return corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: sources}}}
}
