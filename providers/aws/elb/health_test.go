package elb_test

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/providers/aws/elb"
)

func TestHealth(t *testing.T) {
	for h, want := range map[types.TargetHealth]catalog.Health{
		{State: types.TargetHealthStateEnumHealthy}:                                                              catalog.Passing,
		{State: types.TargetHealthStateEnumInitial}:                                                              catalog.Critical,
		{State: types.TargetHealthStateEnumUnhealthy, Reason: types.TargetHealthReasonEnumTimeout}:               catalog.Critical,
		{State: types.TargetHealthStateEnumDraining}:                                                             catalog.Maintenance,
		{State: types.TargetHealthStateEnumUnhealthyDraining}:                                                    catalog.Maintenance,
		{State: types.TargetHealthStateEnumUnavailable, Reason: types.TargetHealthReasonEnumHealthCheckDisabled}: catalog.Unknown,
		{State: types.TargetHealthStateEnumUnused, Reason: types.TargetHealthReasonEnumNotInUse}:                 catalog.Unknown,
		{State: types.TargetHealthStateEnumUnused, Reason: types.TargetHealthReasonEnumInvalidState}:             catalog.Critical,
		{State: types.TargetHealthStateEnumUnused, Reason: types.TargetHealthReasonEnumIpUnusable}:               catalog.Critical,
		{State: types.TargetHealthStateEnumUnused, Reason: types.TargetHealthReasonEnumNotRegistered}:            "",
		{State: "brand-new"}: catalog.Unknown,
	} {
		if got, present := elb.Health(h); got != want || present != (want != "") {
			t.Errorf("%s (%s) is %q (%v), want %q", h.State, h.Reason, got, present, want)
		}
	}
}

func TestProtocol(t *testing.T) {
	for _, c := range []struct {
		protocol types.ProtocolEnum
		version  string
		want     catalog.Protocol
	}{
		{types.ProtocolEnumHttp, "HTTP1", catalog.HTTP},
		{types.ProtocolEnumHttp, "HTTP2", catalog.HTTP},
		{types.ProtocolEnumHttp, "GRPC", catalog.GRPC},
		{types.ProtocolEnumHttps, "HTTP1", catalog.TLS},
		{types.ProtocolEnumTls, "", catalog.TLS},
		{types.ProtocolEnumTcp, "", catalog.TCP},
		{types.ProtocolEnumUdp, "", catalog.UDP},
		{types.ProtocolEnumTcpUdp, "", catalog.TCP},
	} {
		if got := elb.Protocol(types.TargetGroup{Protocol: c.protocol, ProtocolVersion: aws.String(c.version)}); got != c.want {
			t.Errorf("%s %s is %s, want %s", c.protocol, c.version, got, c.want)
		}
	}
}
