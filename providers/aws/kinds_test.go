package aws_test

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	awsasg "github.com/aws/aws-sdk-go-v2/service/autoscaling"
	asgtypes "github.com/aws/aws-sdk-go-v2/service/autoscaling/types"
	awsec2 "github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	awsecs "github.com/aws/aws-sdk-go-v2/service/ecs"
	ecstypes "github.com/aws/aws-sdk-go-v2/service/ecs/types"
	awselb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	elbtypes "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"
	"github.com/aws/aws-sdk-go-v2/service/servicediscovery"
	sdtypes "github.com/aws/aws-sdk-go-v2/service/servicediscovery/types"

	"github.com/isthmus-mesh/isthmus/discovery/discoverytest"
	"github.com/isthmus-mesh/isthmus/providers/aws"
	"github.com/isthmus-mesh/isthmus/providers/aws/autoscaling"
	"github.com/isthmus-mesh/isthmus/providers/aws/cloudmap"
	"github.com/isthmus-mesh/isthmus/providers/aws/ec2"
	"github.com/isthmus-mesh/isthmus/providers/aws/ecs"
	"github.com/isthmus-mesh/isthmus/providers/aws/elb"
	"github.com/isthmus-mesh/isthmus/providers/aws/unit"
)

var (
	quiet       = slog.New(slog.DiscardHandler)
	adminClient = &http.Client{Timeout: time.Minute, Transport: &http.Transport{DisableKeepAlives: true}}
)

// kinds make a fixture of each kind.
var kinds = map[string]func(*world) fixture{
	cloudmap.Kind: cloudMap, ecs.Kind: tasks, elb.Kind: targets, autoscaling.Kind: groups, ec2.Kind: instances,
}

// ports are those of the services that contents speak of.
var ports = map[string]uint16{"web": 80, "billing": 81, "orders": 82}

// differ calls add and remove for what two contents differ in.
func differ(before, after discoverytest.Content, add, remove func(service, address string)) {
	for _, step := range []struct {
		a, b discoverytest.Content
		do   func(service, address string)
	}{{before, after, add}, {after, before, remove}} {
		for service, addresses := range step.b {
			for _, address := range addresses {
				if !slices.Contains(step.a[service], address) {
					step.do(service, address)
				}
			}
		}
	}
}

func must[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func cloudMap(w *world) fixture {
	t := w.t
	c := servicediscovery.NewFromConfig(w.admin)
	ns := w.namespace(c, w.name)
	services := map[string]string{}
	now := discoverytest.Content{}
	id := func(address string) string {
		a := netip.MustParseAddrPort(address)
		return fmt.Sprintf("i-%x-%d", a.Addr().As4(), a.Port())
	}
	set := func(to discoverytest.Content) {
		differ(now, to, func(service, address string) {
			if services[service] == "" {
				out := must(c.CreateService(t.Context(), &servicediscovery.CreateServiceInput{
					Name: &service, NamespaceId: &ns, HealthCheckCustomConfig: &sdtypes.HealthCheckCustomConfig{},
				}))(t)
				services[service] = *out.Service.Id
			}
			a := netip.MustParseAddrPort(address)
			out := must(c.RegisterInstance(t.Context(), &servicediscovery.RegisterInstanceInput{
				ServiceId: awssdk.String(services[service]), InstanceId: awssdk.String(id(address)),
				Attributes: map[string]string{"AWS_INSTANCE_IPV4": a.Addr().String(), "AWS_INSTANCE_PORT": fmt.Sprint(a.Port())},
			}))(t)
			w.await(c, out.OperationId)
		}, func(service, address string) {
			out := must(c.DeregisterInstance(t.Context(), &servicediscovery.DeregisterInstanceInput{
				ServiceId: awssdk.String(services[service]), InstanceId: awssdk.String(id(address)),
			}))(t)
			w.await(c, out.OperationId)
		})
		now = to
	}
	return fixture{aws.Account{Config: w.account, CloudMap: cloudmap.Namespaces{{Namespace: w.name}}}, set}
}

// namespace makes one.
func (w *world) namespace(c *servicediscovery.Client, name string) string {
	w.t.Helper()
	out := must(c.CreateHttpNamespace(w.t.Context(), &servicediscovery.CreateHttpNamespaceInput{Name: &name}))(w.t)
	return w.await(c, out.OperationId)
}

// await waits for the end of an operation of Cloud Map, and returns the namespace
// that it made, if any. moto's are done at once.
func (w *world) await(c *servicediscovery.Client, id *string) string {
	w.t.Helper()
	for id != nil {
		out := must(c.GetOperation(w.t.Context(), &servicediscovery.GetOperationInput{OperationId: id}))(w.t)
		switch out.Operation.Status {
		case sdtypes.OperationStatusSuccess:
			return out.Operation.Targets[string(sdtypes.OperationTargetTypeNamespace)]
		case sdtypes.OperationStatusSubmitted, sdtypes.OperationStatusPending:
		case sdtypes.OperationStatusFail:
			w.t.Fatalf("operation of Cloud Map: %s", awssdk.ToString(out.Operation.ErrorMessage))
		}
		if w.proxy == nil {
			time.Sleep(time.Second)
		}
	}
	return ""
}

// subnet is one to start things in, and image what to start.
func (w *world) subnet() (subnet, image string) {
	if w.proxy == nil {
		if os.Getenv(realSubnet) == "" || os.Getenv(realImage) == "" {
			w.t.Skipf("%s and %s name no subnet and image to start instances with", realSubnet, realImage)
		}
		return os.Getenv(realSubnet), os.Getenv(realImage)
	}
	c := awsec2.NewFromConfig(w.admin)
	out := must(c.DescribeSubnets(w.t.Context(), &awsec2.DescribeSubnetsInput{
		Filters: []ec2types.Filter{{Name: awssdk.String("availability-zone"), Values: []string{w.region + "b"}}},
	}))(w.t)
	return *out.Subnets[0].SubnetId, "ami-12c6146b" // one that moto has
}

// run starts an instance of a service, which goes by the address.
func (w *world) run(service, address string) string {
	w.t.Helper()
	subnet, image := w.subnet()
	c := awsec2.NewFromConfig(w.admin)
	out := must(c.RunInstances(w.t.Context(), &awsec2.RunInstancesInput{
		ImageId: &image, SubnetId: &subnet, MinCount: awssdk.Int32(1), MaxCount: awssdk.Int32(1), InstanceType: ec2types.InstanceTypeT3Nano,
		TagSpecifications: []ec2types.TagSpecification{{ResourceType: ec2types.ResourceTypeInstance, Tags: []ec2types.Tag{
			{Key: awssdk.String("world"), Value: &w.name}, {Key: awssdk.String("role"), Value: &service},
		}}},
	}))(w.t)
	i := out.Instances[0]
	w.call(*i.PrivateIpAddress, address)
	if w.proxy == nil {
		w.t.Cleanup(func() { w.terminate(*i.InstanceId) })
	}
	return *i.InstanceId
}

func (w *world) terminate(id string) {
	c := awsec2.NewFromConfig(w.admin)
	if _, err := c.TerminateInstances(ending(w.t), &awsec2.TerminateInstancesInput{InstanceIds: []string{id}}); err != nil {
		w.t.Error(err)
	}
}

func instances(w *world) fixture {
	running := map[string]string{}
	now := discoverytest.Content{}
	f := fixture{account: aws.Account{Config: w.account}}
	for service, port := range ports {
		f.account.EC2 = append(f.account.EC2, ec2.Rule{
			Service: service, Tags: unit.Tags{"world": {w.name}, "role": {service}}, Ports: []unit.Port{{Port: port}},
		})
	}
	f.set = func(to discoverytest.Content) {
		differ(now, to, func(service, address string) { running[address] = w.run(service, address) }, func(_, address string) { w.terminate(running[address]) })
		now = to
	}
	return f
}

func groups(w *world) fixture {
	t := w.t
	c := awsasg.NewFromConfig(w.admin)
	running := map[string]string{}
	now := discoverytest.Content{}
	f := fixture{account: aws.Account{Config: w.account}}
	subnet, image := w.subnet()
	launch := w.name + "-launch"
	must(c.CreateLaunchConfiguration(t.Context(), &awsasg.CreateLaunchConfigurationInput{
		LaunchConfigurationName: &launch, ImageId: &image, InstanceType: awssdk.String("t3.nano"),
	}))(t)
	for service, port := range ports {
		name := w.name + "-" + service
		must(c.CreateAutoScalingGroup(t.Context(), &awsasg.CreateAutoScalingGroupInput{
			AutoScalingGroupName: &name, LaunchConfigurationName: &launch, VPCZoneIdentifier: &subnet,
			MinSize: awssdk.Int32(0), MaxSize: awssdk.Int32(10), DesiredCapacity: awssdk.Int32(0),
			Tags: []asgtypes.Tag{{Key: awssdk.String("service"), Value: &service, PropagateAtLaunch: awssdk.Bool(true)}},
		}))(t)
		f.account.AutoScaling = append(f.account.AutoScaling, autoscaling.Rule{
			ServiceTag: "service", Groups: []string{name}, Ports: []unit.Port{{Port: port}},
		})
	}
	f.set = func(to discoverytest.Content) {
		differ(now, to, func(service, address string) {
			running[address] = w.run(service, address)
			must(c.AttachInstances(t.Context(), &awsasg.AttachInstancesInput{
				AutoScalingGroupName: awssdk.String(w.name + "-" + service), InstanceIds: []string{running[address]},
			}))(t)
		}, func(service, address string) {
			must(c.DetachInstances(t.Context(), &awsasg.DetachInstancesInput{
				AutoScalingGroupName: awssdk.String(w.name + "-" + service), InstanceIds: []string{running[address]},
				ShouldDecrementDesiredCapacity: awssdk.Bool(true),
			}))(t)
			w.terminate(running[address])
		})
		now = to
	}
	return f
}

func targets(w *world) fixture {
	t := w.t
	c := awselb.NewFromConfig(w.admin)
	ec := awsec2.NewFromConfig(w.admin)
	vpcs := must(ec.DescribeVpcs(t.Context(), &awsec2.DescribeVpcsInput{}))(t)
	arns := map[string]string{}
	now := discoverytest.Content{}
	f := fixture{account: aws.Account{Config: w.account}}
	for service, port := range ports {
		name := w.name + "-" + service
		out := must(c.CreateTargetGroup(t.Context(), &awselb.CreateTargetGroupInput{
			Name: &name, Protocol: elbtypes.ProtocolEnumTcp, Port: awssdk.Int32(int32(port)),
			VpcId: vpcs.Vpcs[0].VpcId, TargetType: elbtypes.TargetTypeEnumIp,
		}))(t)
		arns[service] = *out.TargetGroups[0].TargetGroupArn
		if w.proxy == nil {
			t.Cleanup(func() {
				must(c.DeleteTargetGroup(ending(t), &awselb.DeleteTargetGroupInput{TargetGroupArn: awssdk.String(arns[service])}))(t)
			})
		}
		f.account.TargetGroups = append(f.account.TargetGroups, elb.Rule{Name: name, Service: service})
	}
	of := func(address string) []elbtypes.TargetDescription {
		a := netip.MustParseAddrPort(address)
		return []elbtypes.TargetDescription{{Id: awssdk.String(a.Addr().String()), Port: awssdk.Int32(int32(a.Port())), AvailabilityZone: awssdk.String("all")}}
	}
	f.set = func(to discoverytest.Content) {
		differ(now, to, func(service, address string) {
			must(c.RegisterTargets(t.Context(), &awselb.RegisterTargetsInput{TargetGroupArn: awssdk.String(arns[service]), Targets: of(address)}))(t)
		}, func(service, address string) {
			must(c.DeregisterTargets(t.Context(), &awselb.DeregisterTargetsInput{TargetGroupArn: awssdk.String(arns[service]), Targets: of(address)}))(t)
		})
		now = to
	}
	return f
}

func tasks(w *world) fixture {
	t := w.t
	c := awsecs.NewFromConfig(w.admin)
	subnet, _ := w.subnet()
	groups := must(awsec2.NewFromConfig(w.admin).DescribeSecurityGroups(t.Context(), &awsec2.DescribeSecurityGroupsInput{}))(t)
	must(c.CreateCluster(t.Context(), &awsecs.CreateClusterInput{ClusterName: &w.name}))(t)
	running := map[string]string{}
	now := discoverytest.Content{}
	for service, port := range ports {
		must(c.RegisterTaskDefinition(t.Context(), &awsecs.RegisterTaskDefinitionInput{
			Family: awssdk.String(w.name + "-" + service), NetworkMode: ecstypes.NetworkModeAwsvpc, Cpu: awssdk.String("256"), Memory: awssdk.String("512"),
			RequiresCompatibilities: []ecstypes.Compatibility{ecstypes.CompatibilityFargate},
			ContainerDefinitions: []ecstypes.ContainerDefinition{{
				Name: awssdk.String("main"), Image: awssdk.String("example.org/main"), Memory: awssdk.Int32(256),
				PortMappings: []ecstypes.PortMapping{{ContainerPort: awssdk.Int32(int32(port))}},
			}},
		}))(t)
	}
	set := func(to discoverytest.Content) {
		differ(now, to, func(service, address string) {
			out := must(c.RunTask(t.Context(), &awsecs.RunTaskInput{
				Cluster: &w.name, TaskDefinition: awssdk.String(w.name + "-" + service), Group: awssdk.String("service:" + service),
				LaunchType: ecstypes.LaunchTypeFargate,
				NetworkConfiguration: &ecstypes.NetworkConfiguration{AwsvpcConfiguration: &ecstypes.AwsVpcConfiguration{
					Subnets: []string{subnet}, SecurityGroups: []string{*groups.SecurityGroups[0].GroupId},
				}},
			}))(t)
			running[address] = *out.Tasks[0].TaskArn
			for _, d := range out.Tasks[0].Attachments[0].Details {
				if *d.Name == "privateIPv4Address" {
					w.call(*d.Value, address)
				}
			}
		}, func(_, address string) {
			must(c.StopTask(t.Context(), &awsecs.StopTaskInput{Cluster: &w.name, Task: awssdk.String(running[address])}))(t)
		})
		now = to
	}
	return fixture{aws.Account{Config: w.account, ECS: ecs.Clusters{{Cluster: w.name}}}, set}
}
