-- Health of a MirrorPair, a Failover or a Restore of storagemirror.io for Argo CD, which calls kinds that it does not
-- know Healthy at once. How to install it: docs/gitops.md.
local health = { status = "Progressing", message = "Waiting for the operator" }
local status = obj.status
if status == nil or status.conditions == nil then
  return health
end

local found = {}
for _, condition in ipairs(status.conditions) do
  found[condition.type] = condition
end

local function holds(kind)
  return found[kind] ~= nil and found[kind].status == "True"
end

if found.Ready ~= nil and found.Ready.message ~= nil then
  health.message = found.Ready.message
end
-- What is said of an older spec does not count; but what has ended, has ended.
if status.endedAt == nil and status.observedGeneration ~= nil and obj.metadata.generation ~= nil
    and status.observedGeneration < obj.metadata.generation then
  health.message = "Waiting for the operator to take up the change"
  return health
end
if obj.spec ~= nil and obj.spec.paused == true then
  health.status = "Suspended"
elseif (obj.kind == "Failover" and status.phase == "AwaitingApproval")
    or (obj.kind == "Restore" and status.phase == "AwaitingCutOver") then
  health.status = "Suspended"
elseif holds("Held") then
  health.status = "Degraded"
  health.message = found.Held.message
elseif holds("Stalled") then
  health.status = "Degraded"
  health.message = found.Stalled.message
elseif holds("Ready") then
  health.status = "Healthy"
elseif found.Ready ~= nil and found.Ready.reason == "FailedOver" then
  -- The application runs, and has no copy any more.
  health.status = "Degraded"
end
return health
