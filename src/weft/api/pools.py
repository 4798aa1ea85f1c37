"""/pools and /availabilityZones"""

from weft.api.call import Answer, Api, Call
from weft.api.listing import select
from weft.model import PoolId
from weft.wire.pools import PoolResource


def get(api: Api, call: Call) -> Answer:
    return Answer(value=PoolResource.of(api.service.pools.get(PoolId(call.id))))


def list_(api: Api, call: Call) -> Answer:
    resources = [PoolResource.of(each) for each in api.service.pools.list()]
    return Answer(value=select(resources, call.query))


def availability_zones(api: Api, _call: Call) -> Answer:
    return Answer(value=sorted({each.pool.availability_zone for each in api.service.pools.list()}))
