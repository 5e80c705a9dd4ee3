package peer

import (
	"google.golang.org/protobuf/types/known/timestamppb"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	meshv1a1 "github.com/meshd-io/meshd/api/v1alpha1"
	"github.com/meshd-io/meshd/pkg/peer/peerv1"
	"github.com/meshd-io/meshd/pkg/report"
	"github.com/meshd-io/meshd/pkg/status"
)

// maxFindings of one object are told to other replicas; a status shows fewer.
const maxFindings = 32

func encodeName(o report.Object) *peerv1.ObjectName {
	return &peerv1.ObjectName{Kind: o.Kind, Namespace: o.Namespace, Name: o.Name}
}

func decodeName(o *peerv1.ObjectName) report.Object {
	return report.Object{Kind: o.GetKind(), Namespace: o.GetNamespace(), Name: o.GetName()}
}

func encodeObject(o Object) *peerv1.ObjectProgress {
	out := &peerv1.ObjectProgress{
		Object: encodeName(o.Object), Uid: o.UID, Generation: o.Generation,
		Total: int32(o.Progress.Total), Acknowledged: int32(o.Progress.Acknowledged), Rejected: int32(o.Progress.Rejected), // counts of proxies
		Laggards: o.Progress.Laggards, Messages: o.Progress.Messages,
	}
	for _, f := range o.Findings[:min(len(o.Findings), maxFindings)] {
		out.Findings = append(out.Findings, &peerv1.Finding{
			Condition: string(f.Condition), Reason: string(f.Reason), Field: f.Field, By: encodeName(f.By),
			Target: f.Target, Message: f.Message, Generation: f.Generation,
		})
	}
	return out
}

func decodeObject(o *peerv1.ObjectProgress) Object {
	out := Object{
		Object: decodeName(o.GetObject()), UID: o.GetUid(), Generation: o.GetGeneration(),
		Progress: status.Progress{
			Total: int(o.GetTotal()), Acknowledged: int(o.GetAcknowledged()), Rejected: int(o.GetRejected()),
			Laggards: o.GetLaggards(), Messages: o.GetMessages(),
		},
	}
	for _, f := range o.GetFindings() {
		out.Findings = append(out.Findings, report.Finding{
			Object: out.Object, Generation: f.GetGeneration(), Condition: report.Condition(f.GetCondition()),
			Reason: report.Reason(f.GetReason()), Field: f.GetField(), By: decodeName(f.GetBy()),
			Target: f.GetTarget(), Message: f.GetMessage(),
		})
	}
	return out
}

func encodeIssuers(cs []meshv1a1.CertificateStatus) []*peerv1.Certificate {
	out := make([]*peerv1.Certificate, 0, len(cs))
	for _, c := range cs {
		out = append(out, &peerv1.Certificate{Fingerprint: c.Fingerprint, NotAfter: timestamppb.New(c.NotAfter.Time)})
	}
	return out
}

func decodeIssuers(cs []*peerv1.Certificate) []meshv1a1.CertificateStatus {
	out := make([]meshv1a1.CertificateStatus, 0, len(cs))
	for _, c := range cs {
		out = append(out, meshv1a1.CertificateStatus{Fingerprint: c.GetFingerprint(), NotAfter: metav1.NewTime(c.GetNotAfter().AsTime())})
	}
	return out
}
