package terraform_test

import (
	"slices"
	"strings"
	"testing"
)

// rule is one that lets something in.
type rule struct {
	IsEgress            bool
	IPProtocol          string `json:"IpProtocol"`
	FromPort, ToPort    int
	CIDR                string                   `json:"CidrIpv4"`
	ReferencedGroup     struct{ GroupID string } `json:"ReferencedGroupInfo"`
	SecurityGroupRuleID string                   `json:"SecurityGroupRuleId"`
}

func (a *account) ingress(t *testing.T, group string) []rule {
	t.Helper()
	var found struct{ SecurityGroupRules []rule }
	a.ask(&found, "ec2", "describe-security-group-rules", "--filters", "Name=group-id,Values="+group)
	return slices.DeleteFunc(found.SecurityGroupRules, func(r rule) bool { return r.IsEgress })
}

// opensOnlyThePort looks at what the world, the federation and workloads get at.
func (a *account) opensOnlyThePort(t *testing.T, out *awsOutputs) {
	for _, r := range a.ingress(t, out.Addresses.Value.SecurityGroupID) {
		public := strings.HasPrefix(r.CIDR, "198.51.100.") || strings.HasPrefix(r.CIDR, "203.0.113.")
		switch {
		case public && r.FromPort == 7443 && r.ToPort == 7443 && (r.IPProtocol == "udp" || r.IPProtocol == "tcp"):
		case r.CIDR == "10.20.0.0/16" && r.FromPort == 7080 && r.ToPort == 7080 && r.IPProtocol == "tcp":
		case r.CIDR == "" && r.FromPort == 7482 && r.ToPort == 7482 && r.IPProtocol == "tcp":
		default:
			t.Errorf("the gateways let in: %+v", r)
		}
	}
	if n := len(a.ingress(t, out.Addresses.Value.SecurityGroupID)); n != 6 {
		t.Errorf("%d rules let something in to the gateways, not udp and tcp of two ranges, workloads and control", n)
	}
	for _, r := range a.ingress(t, out.Balanced.Value.SecurityGroupID) {
		if r.CIDR != "" || r.FromPort != r.ToPort || r.FromPort != 7443 && r.FromPort != 7481 {
			t.Errorf("gateways behind the load balancer let in: %+v", r)
		}
	}
	for _, r := range a.ingress(t, out.Federation.Value.SecurityGroup.ID) {
		if r.FromPort != 7483 && (r.FromPort != 7484 || r.CIDR != "10.20.0.0/16") {
			t.Errorf("the federation lets in: %+v", r)
		}
	}
}

// hasInstances looks at what runs, and how its metadata are reached.
func (a *account) hasInstances(t *testing.T, out *awsOutputs) {
	var found struct {
		Reservations []struct {
			Instances []struct {
				InstanceID      string `json:"InstanceId"`
				MetadataOptions struct{ HTTPTokens string }
				Tags            []struct{ Key, Value string }
			}
		}
	}
	a.ask(&found, "ec2", "describe-instances", "--filters", "Name=instance-state-name,Values=running")
	roles := map[string]int{}
	for _, r := range found.Reservations {
		for _, i := range r.Instances {
			for _, tag := range i.Tags {
				if tag.Key == "isthmus-role" {
					roles[tag.Value]++
				}
			}
		}
	}
	if roles["federation"] != 2 || roles["gateway"] != 4 {
		t.Errorf("instances by role: %v, not 2 federations and twice 2 gateways", roles)
	}
	var templates struct {
		LaunchTemplateVersions []struct {
			LaunchTemplateData struct {
				MetadataOptions struct{ HTTPTokens string }
			}
		}
	}
	a.ask(&templates, "ec2", "describe-launch-template-versions", "--launch-template-name", "isthmus-aws-us-east-1-gateway")
	for _, v := range templates.LaunchTemplateVersions {
		if v.LaunchTemplateData.MetadataOptions.HTTPTokens != "required" {
			t.Errorf("metadata without a token: %+v", v)
		}
	}
	var hooks struct {
		LifecycleHooks []struct{ LifecycleHookName, LifecycleTransition string }
	}
	a.ask(&hooks, "autoscaling", "describe-lifecycle-hooks", "--auto-scaling-group-name", out.Addresses.Value.Group)
	if len(hooks.LifecycleHooks) != 1 || hooks.LifecycleHooks[0].LifecycleTransition != "autoscaling:EC2_INSTANCE_TERMINATING" {
		t.Errorf("nobody waits for a drain: %+v", hooks)
	}
	if got := out.Balanced.Value.GatewayIDs["gw-a"]; got != "spiffe://aws.example.org/isthmus/cluster/aws-balanced/gateway/gw-a" {
		t.Errorf("the gateway's ID is %q", got)
	}
}

// bootsWithAddress starts the group's two instances: each takes an Elastic IP, by the
// real command line and moto, and becomes the gateway that it belongs to.
func (a *account) bootsWithAddress(t *testing.T, out gatewayOutputs) {
	var group struct {
		AutoScalingGroups []struct {
			Instances []struct {
				InstanceID string `json:"InstanceId"`
			}
		}
	}
	a.ask(&group, "autoscaling", "describe-auto-scaling-groups", "--auto-scaling-group-names", out.Group)
	if len(group.AutoScalingGroups) != 1 || len(group.AutoScalingGroups[0].Instances) != 2 {
		t.Fatalf("the group: %+v", group)
	}
	taken := map[string]string{}
	for _, i := range group.AutoScalingGroups[0].Instances {
		m := metadata(t, map[string]string{
			"placement/availability-zone-id": "use1-az4", "placement/region": "us-east-1", "local-ipv4": "10.20.1.50", "instance-id": i.InstanceID,
		})
		c := boots(t, cloudInit(t, out.CloudInit), m.URL, a.env()...)
		if !slices.Contains(out.Gateways, c.Gateway.Advertise[0]) || out.GatewayIDs[c.Gateway.Name] == "" {
			t.Errorf("the instance became %+v", c)
		}
		if len(c.Gateway.Federation) != 2 || c.Gateway.Listen.Control != "10.20.1.50:7482" || c.Gateway.Listen.Admin != "127.0.0.1:7481" {
			t.Errorf("the instance listens as %+v", c)
		}
		taken[c.Gateway.Name] = c.Gateway.Advertise[0]
	}
	if len(taken) != 2 || taken["gw1"] == taken["gw2"] {
		t.Errorf("two instances took %v", taken)
	}
}

// bootsInZone starts the instance of each zone.
func bootsInZone(t *testing.T, out gatewayOutputs) {
	for zone, name := range map[string]string{"use1-az6": "gw-a", "use1-az1": "gw-b"} {
		m := metadata(t, map[string]string{"placement/availability-zone-id": zone, "local-ipv4": "10.20.1.50", "instance-id": "i-0123456789abcdef0"})
		c := boots(t, cloudInit(t, out.CloudInit), m.URL)
		if c.Gateway.Name != name || !slices.Contains(out.Gateways, c.Gateway.Advertise[0]) || c.Gateway.Listen.Admin != "10.20.1.50:7481" {
			t.Errorf("in zone %s the instance became %+v", zone, c)
		}
	}
	m := metadata(t, map[string]string{"placement/availability-zone-id": "use1-az9", "local-ipv4": "10.20.1.50", "instance-id": "i-0123456789abcdef0"})
	if said, err := bootsIn(t, t.TempDir(), cloudInit(t, out.CloudInit), m.URL); err == nil || !strings.Contains(said, "no gateway is meant for use1-az9") {
		t.Errorf("an instance in a zone of nobody: %v\n%s", err, said)
	}
}
